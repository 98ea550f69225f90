"""Speaks a text that still grows: a job for each sentence, all with one voice, and audio in their order."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, dataclass

from gateway.errors import bad_request
from gateway.failures import failed
from gateway.jobs import Jobs
from gateway.orders import parse
from gateway.sentences import Sentence, Sentences
from rwkv_tts import AsyncSpeechStream, JobFailedError, SynthesisRequest, SynthesisResult

MAX_CHARACTERS = 100_000
"""Of an utterance; what is not spoken yet is in memory."""

_AT_ONCE = 2
"""Jobs of an utterance: while one is heard, the next is made."""

_PAUSE, _PARAGRAPH = 0.35, 0.7
"""Seconds between sentences, and between paragraphs, as between the parts of a long text."""


class GrowingText:
    """A text that comes in pieces; iterating over it gives its sentences as they are complete.

    Attributes:
        ended: Whether no more comes.
        ready_at: When the first sentence was complete, monotonic seconds; 0 before.
    """

    def __init__(self) -> None:
        self._sentences = Sentences()
        self._ready: asyncio.Queue[Sentence | None] = asyncio.Queue()
        self._length = 0
        self.ended = False
        self.ready_at = 0.0

    def add(self, text: str, *, flush: bool = False) -> None:
        """Go on.

        Args:
            text: The next piece.
            flush: Whether a sentence ends with it, whatever it looks like.

        Raises:
            ApiError: The text is too long.
        """
        if self._length + len(text) > MAX_CHARACTERS:
            raise bad_request(f"text: too long; accepted: up to {MAX_CHARACTERS} characters in all", "text")
        self._length += len(text)
        for sentence in [*self._sentences.add(text), *(self._sentences.rest() if flush else ())]:
            self.ready_at = self.ready_at or time.monotonic()
            self._ready.put_nowait(sentence)

    def end(self) -> None:
        """No more comes."""
        self.add("", flush=True)
        self.ended = True
        self._ready.put_nowait(None)

    def __len__(self) -> int:
        return self._length

    async def __aiter__(self) -> AsyncIterator[Sentence]:
        while (sentence := await self._ready.get()) is not None:
            yield sentence


@dataclass(frozen=True)
class Begun:
    """A sentence is spoken from now on; ``begin`` is in seconds of the utterance's audio."""

    sentence: Sentence
    begin: float


@dataclass(frozen=True)
class Ended:
    """All audio of a sentence has come; it is spoken from ``begin`` to ``end``, in seconds."""

    sentence: Sentence
    begin: float
    end: float


Heard = Begun | bytes | Ended


class Utterance:
    """One text in one voice.

    Args:
        jobs: Queue what is to be spoken.
        request: All but the text; its seed is of every sentence.
        tell: Takes what is heard, in order; of each sentence the audio is a file of its own.

    Attributes:
        seed: The request's, or a chosen one.
        seconds: Of audio so far.
        tokens: Of speech so far.
    """

    def __init__(self, jobs: Jobs, request: SynthesisRequest, tell: Callable[[Heard], Awaitable[None]]) -> None:
        self.seed = secrets.randbits(32) if request.seed is None else request.seed
        self.seconds, self.tokens = 0.0, 0
        self._jobs, self._tell = jobs, tell
        self._fields = {
            **request.model_dump(mode="json", exclude_unset=True),
            "seed": self.seed,
            "stream": True,
            "timestamps": True,
        }
        self._has_voice = request.mode == "voice"
        self._free = asyncio.Semaphore(_AT_ONCE)
        self._over = asyncio.Event()

    async def speak(self, text: GrowingText) -> None:
        """Speak a text to its end.

        Raises:
            ApiError: A sentence cannot be spoken; there is no more after it.
        """
        turn = None
        try:
            async with asyncio.TaskGroup() as group:
                async for sentence in text:
                    await self._free.acquire()
                    over = asyncio.Event()
                    group.create_task(self._say(sentence, turn, over))
                    if not self._has_voice:
                        await over.wait()
                    turn = over
                if turn is not None:
                    await turn.wait()
                self._over.set()
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None

    async def _say(self, sentence: Sentence, turn: asyncio.Event | None, over: asyncio.Event) -> None:
        """Speak a sentence, after the one before it; the one that has made the voice stays until the end."""
        pause = 0.0 if turn is None else _PARAGRAPH if sentence.paragraph else _PAUSE
        is_first = not self._has_voice
        async with self._jobs.stream(self._request(sentence, pause)) as stream:
            if turn is not None:
                await turn.wait()
            await self._hear(sentence, stream, pause)
            if is_first:
                self._take_voice(stream.job_id)
            over.set()
            self._free.release()
            if is_first:
                await self._over.wait()

    def _request(self, sentence: Sentence, pause: float) -> SynthesisRequest:
        """A sentence after a pause, which is beyond the seconds that each may have."""
        text = f"[pause:{pause}s] {sentence.text}" if pause else sentence.text
        most = self._fields.get("max_seconds")
        return parse({**self._fields, "text": text, "max_seconds": None if most is None else most + pause})

    async def _hear(self, sentence: Sentence, stream: AsyncSpeechStream, pause: float) -> None:
        await self._tell(Begun(sentence, self.seconds + pause))
        try:
            async for piece in stream:
                await self._tell(piece)
        except JobFailedError as error:
            raise failed(error) from None
        assert stream.result is not None
        await self._tell(self._ended(sentence, stream.result))

    def _ended(self, sentence: Sentence, result: SynthesisResult) -> Ended:
        parts, before = result.parts, self.seconds
        begin, end = (parts[0].begin, parts[-1].end) if parts else (0.0, 0.0)
        self.seconds += result.seconds
        self.tokens += result.tokens.globals + result.tokens.semantic
        return Ended(sentence, before + begin, before + end)

    def _take_voice(self, job_id: str) -> None:
        """Have all that follows speak with the voice of a job, as later parts of one text would."""
        request = parse({**self._fields, "text": "-"})
        attributes = request.attributes()
        self._fields |= {
            **(asdict(attributes) if attributes else {}),
            "voice": f"job:{job_id}",
            "use_transcript": request.reference_text is not None,
        }
        for name in ("reference", "reference_text"):
            self._fields.pop(name, None)
        self._has_voice = True
