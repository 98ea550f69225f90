"""The voices that can be spoken with: those of OpenAI's names, the models' own, and those that are kept."""

from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse

from gateway.connection import read_form, while_connected
from gateway.context import Context, context_of
from gateway.errors import ApiError, bad_request
from gateway.jobs import Jobs
from gateway.keys import Caller
from rwkv_tts import RequestError, Voice, VoiceError

FIELDS = ("name", "recording", "transcript", "consent")


async def audio_voices(request: Request) -> JSONResponse:
    """All voices by id and name, as Open WebUI reads them; without a key, as it asks."""
    context = context_of(request)
    return JSONResponse({"voices": [{"id": name, "name": name} for name in await names(context)]})


async def voices(request: Request) -> JSONResponse:
    """The kept voices."""
    context = context_of(request)
    context.door.admit(request)
    kept = await context.client.voices.list()
    return JSONResponse({"object": "list", "data": [_told(voice) for voice in kept]})


async def add_voice(request: Request) -> JSONResponse:
    """Clone a voice from a recording, and keep it."""
    context = context_of(request)
    caller = _keeper(request)
    form = await read_form(request, context.settings)
    name, recording, transcript = await _wanted(form, context)
    with context.turns.of(caller):
        jobs = Jobs(context.client, context.pulse)
        making = jobs.voice(name, recording, transcript)
        try:
            voice = await while_connected(request.receive, making)
        except (VoiceError, RequestError) as error:
            raise bad_request(str(error), "name" if isinstance(error, VoiceError) else "recording") from None
    return JSONResponse(_told(voice), 201)


async def remove_voice(request: Request) -> JSONResponse:
    """Remove a kept voice."""
    _keeper(request)
    voice_id = request.path_params["voice"]
    try:
        await context_of(request).client.voices.remove(voice_id)
    except VoiceError as error:
        raise ApiError(404, str(error), param="voice", code="voice_not_found") from None
    return JSONResponse({"id": voice_id, "object": "voice", "deleted": True})


def _keeper(request: Request) -> Caller:
    """Who asks, if voices are theirs to change."""
    caller = context_of(request).door.admit(request)
    if not caller.voices:
        raise ApiError(403, "this key may not change voices", code="forbidden")
    return caller


async def names(context: Context) -> list[str]:
    """All voices: those of OpenAI's names, the models' own, and the kept ones."""
    workers = (await context.pulse.busyness()).workers
    own = sorted({voice for worker in workers for voice in worker.voices})
    return list(dict.fromkeys([*context.settings.aliases, *own, *await context.client.voices.ids()]))


async def _wanted(form: FormData, context: Context) -> tuple[str, bytes, str | None]:
    """Name, recording and transcript of a form."""
    unknown = next((name for name in form if name not in FIELDS), None)
    if unknown is not None:
        raise bad_request(f"{unknown[:80]}: unknown field; accepted: {', '.join(FIELDS)}", unknown[:80])
    name, recording, transcript = (form.get(field) for field in FIELDS[:3])
    if form.get("consent") != "true":
        told = "consent: accepted: true, which says that whose voice it is has agreed"
        raise bad_request(told, "consent", "consent_required")
    if not isinstance(name, str) or name in context.settings.aliases:
        raise bad_request("name: accepted: an id for the voice, and none of OpenAI's names", "name")
    if not isinstance(recording, UploadFile):
        raise bad_request("recording: accepted: a wav, flac, ogg, opus or mp3 file", "recording")
    if isinstance(transcript, UploadFile):
        raise bad_request("transcript: accepted: the words spoken in the recording", "transcript")
    return name, await recording.read(), transcript or None


def _told(voice: Voice) -> dict[str, Any]:
    return {
        "id": voice.id,
        "object": "voice",
        "name": voice.name,
        "created_at": voice.created_at,
        "transcript": voice.prompt_text,
        "seconds": voice.audio_duration,
    }
