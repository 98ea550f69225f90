"""The Redis keys and names that producers, workers and tools share.

They follow RQ's: with the variable ``RQ_KEY_PREFIX``, which is read once, when RQ is imported, all begin with it.
So several tenants may share one Redis, and a prefix with a hash tag, such as ``{rq}``, puts all keys on one node
of a cluster. Below, they are as they are without it.
"""

from rq.defaults import RQ_KEY_PREFIX

_PREFIX = "rwkv-tts:" if RQ_KEY_PREFIX == "rq" else f"{RQ_KEY_PREFIX}:rwkv-tts:"

FUNCTION = "worker.tasks.synthesize"
"""The one function that a job may name."""

ARGUMENT = "request"
"""The keyword argument that holds the request."""

SCHEMA = 6
"""Of the request; one more with every field or value that older workers do not know."""

SCHEMA_META = "rwkv_tts_schema"
"""In the ``meta`` of a job: the schema that its request was written for."""

REFUSAL_FIELD = "rwkv_tts_refusal"
"""Of the entry of a result of a job that has failed: why, as JSON: field, cause and message."""

PROGRESS_META = "rwkv_tts_progress"
"""In the ``meta`` of a running job: how far it has come, an object that its worker writes now and then."""

LISTENER_META = "rwkv_tts_listener"
"""In the ``meta`` of a job that is to end with its listener: the listener's name, 32 hexadecimal digits."""

AUDIO_PREFIX = _PREFIX + "audio:"
"""``rwkv-tts:audio:<job id>``: the bytes of the finished audio, with the result's time to live."""

TOKENS_PREFIX = _PREFIX + "tokens:"
"""``rwkv-tts:tokens:<job id>``: what it takes to keep a job's voice, as JSON; lives as long as its audio."""

CHUNKS_PREFIX = _PREFIX + "chunks:"
"""``rwkv-tts:chunks:<job id>``: a stream of what was made of a job's audio so far, for those who listen."""

KEPT_PREFIX = _PREFIX + "kept:"
"""``rwkv-tts:kept:<job id>``: a stream of what a worker needs that goes on with a job; gone at its end."""

VOICES_KEY = _PREFIX + "voices"
"""The hash of kept voices: from id to the text of a RAF file."""

BATCH_PREFIX = _PREFIX + "batch:"
"""``rwkv-tts:batch:<name>``: a hash of the lines of a batch, by their ids; gone a week after it was asked for."""

LEASE_PREFIX = _PREFIX + "lease:"
"""``rwkv-tts:lease:<worker>``: there as long as the worker lives; what it says of itself, as JSON."""

PRESENCE_KEY = _PREFIX + "presence"
"""There as long as any worker lives: since when that has been so without a gap, in Unix seconds."""

DEATHS_PREFIX = _PREFIX + "deaths:"
"""``rwkv-tts:deaths:<job id>``: how many workers in a row have died while they ran the job."""

RECOVERY_PREFIX = _PREFIX + "recovery:"
"""``rwkv-tts:recovery:<queue>``: held for a moment by the worker that looks for dead workers' jobs."""

HOLDERS_PREFIX = _PREFIX + "holders:"
"""``rwkv-tts:holders:<queue>``: the workers that may run jobs of a queue."""

WATCH_PREFIX = _PREFIX + "watch:"
"""``rwkv-tts:watch:<queue>``: held by the one of the idle workers that waits at the queue itself."""

BELL_PREFIX = _PREFIX + "bell:"
"""``rwkv-tts:bell:<queue>``: a list at which the other idle workers wait for the watch."""

CANCELLED_PREFIX = _PREFIX + "cancelled:"
"""``rwkv-tts:cancelled:<queue>``: running jobs that are to stop, by when that was asked for, Unix seconds."""

SWEEP_KEY = _PREFIX + "sweep"
"""Held for a while by the worker that removes what nobody needs from the store of the results."""

TUNE_PREFIX = _PREFIX + "tune:"
"""``rwkv-tts:tune:<worker>``: the pub/sub channel on which a worker hears changes of its values."""

LISTENER_PREFIX = _PREFIX + "listener:"
"""``rwkv-tts:listener:<listener>``: a pub/sub channel; a listener is there as long as it is subscribed to."""


def audio_key(job_id: str) -> str:
    return AUDIO_PREFIX + job_id


def tokens_key(job_id: str) -> str:
    return TOKENS_PREFIX + job_id


def chunks_key(job_id: str) -> str:
    return CHUNKS_PREFIX + job_id


def kept_key(job_id: str) -> str:
    return KEPT_PREFIX + job_id


def lease_key(worker_name: str) -> str:
    return LEASE_PREFIX + worker_name


def listener_channel(listener: str) -> str:
    return LISTENER_PREFIX + listener


def tune_channel(worker_name: str) -> str:
    return TUNE_PREFIX + worker_name
