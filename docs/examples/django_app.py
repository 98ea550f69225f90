"""Speech behind Django, in one file: ``python django_app.py runserver``; REDIS_URL says where the queue is.

``POST /speech`` queues a request and answers at once with its job id; ``GET /speech/ID`` answers with the audio
when it is there, and with 202 until then. In a project of your own, take the two views and the client.
"""

import json
import os
import sys
from functools import cache

from django.conf import settings
from django.core.management import execute_from_command_line
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST
from rq.exceptions import NoSuchJobError

from rwkv_tts import JobFailedError, QueueFullError, TTSClient, parse_request

if not settings.configured:
    settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY=os.urandom(16).hex())


@cache
def client() -> TTSClient:
    return TTSClient(os.environ["REDIS_URL"])


@csrf_exempt
@require_POST
def submit(request: HttpRequest) -> HttpResponse:
    """Queue the request of a JSON body; its fields are those of ``SynthesisRequest``."""
    try:
        asked = parse_request(json.loads(request.body))
        return JsonResponse({"job_id": client().enqueue(asked)}, status=202)
    except ValueError as error:  # no JSON, or no request
        return JsonResponse({"error": str(error)}, status=400)
    except QueueFullError as error:
        return JsonResponse({"error": str(error)}, status=429)


@require_GET
def fetch(_: HttpRequest, job_id: str) -> HttpResponse:
    """The audio of a job, if it has ended."""
    try:
        speech = client().result(job_id, timeout=0)
    except TimeoutError:
        return JsonResponse({"job_id": job_id, "status": "not yet"}, status=202)
    except NoSuchJobError:
        return JsonResponse({"error": f"there is no job {job_id}"}, status=404)
    except JobFailedError as error:
        return JsonResponse({"error": str(error)}, status=502)
    return HttpResponse(speech.audio, content_type=f"audio/{speech.result.format}")


urlpatterns = [path("speech", submit), path("speech/<str:job_id>", fetch)]

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
