"""Texts of the system's bench."""

from bench.workload import LENGTHS, LIMITS, MODES, SENTENCES, Workload


def test_texts_have_their_lengths_and_come_from_the_seed() -> None:
    workload = Workload(["anna", "bert"], seed=3)
    assert max(map(len, SENTENCES)) <= LENGTHS["short"][1]
    for length, (least, most) in LENGTHS.items():
        sizes = [len(job["text"]) for job in workload.jobs(200, (length,))]
        assert least <= min(sizes) < (least + most) / 2 < max(sizes) <= most
    jobs = workload.jobs(40)
    assert jobs == Workload(["anna", "bert"], seed=3).jobs(40)
    assert jobs != Workload(["anna", "bert"], seed=4).jobs(40)
    kinds = {("voice" in job, len(job["text"]) > LENGTHS["short"][1]) for job in jobs}
    assert len(kinds) == 2 * len(MODES)  # no mode has one length only


def test_each_job_of_a_full_queue_has_a_limit() -> None:
    jobs = Workload(["anna"], seed=3).limited(40)
    assert jobs[:8] == Workload(["anna"], seed=3).limited(8)
    limits = {job["max_seconds"] for job in jobs}
    assert len(limits) > 30
    assert min(limits) >= LIMITS[0]
    assert max(limits) <= LIMITS[1]
