"""The SQL of the state machine (optimistic locking): one guarded statement for each move of a job.

Nothing else in the program changes a job's state, and only `store` runs these statements. Each is
built on `_MOVE`: the guarded UPDATE, the event that logs it, and the moved rows. If the guard does
not hold, the statement changes nothing and returns no row. Leases and deadlines depend on the
database's clock alone.
"""

from __future__ import annotations

_MOVE = """
WITH moved AS ({update} RETURNING jobs.*),
logged AS (
    INSERT INTO events (job_id, type, attempt, data)
    SELECT id, {event}, attempt, {data} FROM moved
){used}
SELECT * FROM moved
"""

_USED = """, used AS (
    INSERT INTO usage_entries (tenant_id, model, day, images, cached, gpu_seconds, cost_usd)
    SELECT tenant_id, model, (finished_at AT TIME ZONE 'UTC')::date,
           (request->>'num_images')::integer, cached, gpu_seconds, cost_usd FROM moved
)"""


def _move(update: str, event: str, data: str = "'{}'::jsonb", used: str = "") -> str:
    return _MOVE.format(update=update, event=event, data=data, used=used)


INSERT = """
WITH moved AS (
    INSERT INTO jobs (id, tenant_id, idempotency_key, request_hash, request, trace, cache_key,
                      model, priority, steps, shape, deadline_at)
    SELECT id, tenant_id, idempotency_key, decode(request_hash, 'hex'), request, trace,
           decode(cache_key, 'hex'),
           request->>'model', (request->>'priority')::smallint,
           (request->>'num_inference_steps')::integer,
           concat(request->>'width', 'x', request->>'height',
                  CASE WHEN request->>'mask' IS NOT NULL THEN ' mask'
                       WHEN request->>'image' IS NOT NULL THEN ' image' END),
           now() + make_interval(secs => (request->>'deadline_s')::double precision)
    FROM jsonb_to_recordset(CAST(:jobs AS jsonb))
         AS new(id uuid, tenant_id uuid, idempotency_key text, request_hash text, request jsonb,
                trace text, cache_key text)
    ORDER BY tenant_id, idempotency_key
    ON CONFLICT DO NOTHING
    RETURNING *
), logged AS (
    INSERT INTO events (job_id, type, attempt) SELECT id, 'queued', 0 FROM moved
)
SELECT * FROM moved
"""

IMAGES = """
INSERT INTO images (job_id, n, key, width, height, content_type, bytes, sha256, seed)
SELECT CAST(:id AS uuid), n, key, width, height, content_type, bytes, sha256, seed
FROM jsonb_to_recordset(CAST(:images AS jsonb))
     AS new(n integer, key text, width integer, height integer, content_type text,
            bytes bigint, sha256 text, seed bigint)
"""

# The images of the tenant's newest succeeded job with the same cache key. The lock keeps them from
# ageing out until the job that shares them is committed.
EARLIER_IMAGES = """
SELECT images.* FROM images WHERE job_id = (
    SELECT old.id FROM jobs old JOIN jobs new USING (tenant_id, cache_key)
    WHERE new.id = :id AND old.status = 'succeeded' AND old.cache_key IS NOT NULL
      AND old.images_gone_at IS NULL
    ORDER BY old.finished_at DESC LIMIT 1)
ORDER BY n FOR KEY SHARE
"""

ANSWER = _move(
    """UPDATE jobs SET status = 'succeeded', cached = true, finished_at = now(), step = steps
       WHERE id = :id AND status = 'queued' AND attempt = 0""",
    "'succeeded'",
    "jsonb_build_object('from', CAST(:source AS text))",
    _USED,
)

CLAIM = _move(
    """UPDATE jobs SET status = 'running', attempt = attempt + 1, worker_id = :worker,
           lease_until = now() + make_interval(secs => :lease_s), started_at = now(),
           hinted_at = NULL, step = 0
       WHERE id = :id AND status = 'queued' AND run_after <= now() AND deadline_at > now()
         AND (CAST(:exclusive AS boolean) IS NULL OR (crashes > 0) = :exclusive)""",
    "'running'",
    "jsonb_build_object('worker', worker_id)",
).replace(
    "SELECT * FROM moved",
    "SELECT moved.*, (SELECT max_running FROM tenants WHERE tenants.id = tenant_id) FROM moved",
)

RENEW = """
WITH held AS (
    SELECT * FROM jsonb_to_recordset(CAST(:held AS jsonb)) AS h(id uuid, attempt integer, step integer)
), renewed AS (
    UPDATE jobs SET lease_until = now() + make_interval(secs => :lease_s),
                    step = greatest(jobs.step, least(held.step, steps))
    FROM held
    WHERE jobs.id = held.id AND jobs.attempt = held.attempt AND status = 'running'
    RETURNING jobs.id, jobs.attempt
)
SELECT id, attempt FROM renewed
"""

SUCCEED = _move(
    """UPDATE jobs SET status = 'succeeded', finished_at = now(), lease_until = NULL, step = steps,
           error = NULL, render_s = :render_s, store_s = :store_s,
           gpu_seconds = gpu_seconds + :gpu_seconds, cost_usd = cost_usd + :cost_usd,
           cache_key = CASE WHEN cache_key IS NOT NULL
                            THEN coalesce(decode(:cache_key, 'hex'), cache_key) END
       WHERE id = :id AND attempt = :attempt AND status = 'running'""",
    "'succeeded'",
    used=_USED,
)

FAIL = _move(
    """UPDATE jobs SET status = 'failed', finished_at = now(), lease_until = NULL,
           failures = failures + 1, error = CAST(:error AS jsonb)
       WHERE id = :id AND attempt = :attempt AND status = 'running'
         AND (NOT :transient OR failures + 1 >= :max_failures)""",
    "'failed'",
    "error",
)

RETRY = _move(
    """UPDATE jobs SET status = 'queued', lease_until = NULL, hinted_at = NULL, step = 0,
           failures = failures + 1, error = CAST(:error AS jsonb),
           run_after = now() + make_interval(secs => (CAST(:delays AS double precision[]))[failures + 1])
       WHERE id = :id AND attempt = :attempt AND status = 'running'
         AND failures + 1 < :max_failures""",
    "'retried'",
    "error",
)

RELEASE = _move(
    """UPDATE jobs SET status = 'queued', lease_until = NULL, hinted_at = NULL, step = 0,
           releases = releases + 1, run_after = now() + make_interval(secs => :delay_s),
           checkpoint = coalesce(:checkpoint, checkpoint)
       WHERE id = :id AND attempt = :attempt AND status = 'running'""",
    "'released'",
)

CANCEL = _move(
    """UPDATE jobs SET status = 'cancelled', finished_at = now(), lease_until = NULL
       WHERE id = :id AND tenant_id = :tenant_id AND status IN ('queued', 'running')""",
    "'cancelled'",
)

RESCUE = _move(
    """UPDATE jobs SET status = CASE WHEN spent THEN 'failed' ELSE 'queued' END,
           crashes = crashes + 1, lease_until = NULL, hinted_at = NULL, step = 0,
           finished_at = CASE WHEN spent THEN now() END,
           error = CASE WHEN spent THEN jsonb_build_object('code', 'worker_lost', 'message',
               'the worker was lost ' || crashes + 1 || ' times while it rendered this job') END
       FROM (SELECT id AS lost_id, crashes + 1 >= :max_crashes AS spent FROM jobs
             WHERE status = 'running' AND lease_until < now()
             ORDER BY lease_until LIMIT :limit FOR UPDATE SKIP LOCKED) AS lost
       WHERE id = lost_id""",
    "CASE status WHEN 'queued' THEN 'rescued' ELSE 'failed' END",
    "jsonb_build_object('worker', worker_id)",
)

EXPIRE = _move(
    """UPDATE jobs SET status = 'expired', finished_at = now(), lease_until = NULL
       FROM (SELECT id AS late_id FROM jobs
             WHERE status IN ('queued', 'running') AND deadline_at < now()
             ORDER BY deadline_at LIMIT :limit FOR UPDATE SKIP LOCKED) AS late
       WHERE id = late_id""",
    "'expired'",
)

# A hint changes no state. It only records when the workers last got a message about the job.
HINT = """
UPDATE jobs SET hinted_at = now() WHERE id = ANY(CAST(:ids AS uuid[])) AND status = 'queued'
RETURNING id, tenant_id, attempt, request
"""

# Retention: images and jobs that are older than their tenant keeps them. Only final jobs age.
AGED_IMAGES = """
WITH aged AS (
    SELECT jobs.id FROM jobs JOIN tenants ON tenants.id = tenant_id
    WHERE status = 'succeeded' AND images_gone_at IS NULL
      AND finished_at < now() - make_interval(secs => keep_images_s)
    LIMIT :limit FOR UPDATE OF jobs SKIP LOCKED
), marked AS (
    UPDATE jobs SET images_gone_at = now() FROM aged WHERE jobs.id = aged.id
)
DELETE FROM images USING aged WHERE job_id = aged.id RETURNING key
"""

AGED_JOBS = """
WITH aged AS (
    SELECT jobs.id FROM jobs JOIN tenants ON tenants.id = tenant_id
    WHERE finished_at < now() - make_interval(secs => keep_jobs_s)
      AND NOT EXISTS (SELECT 1 FROM outbox WHERE job_id = jobs.id AND state = 'pending')
    LIMIT :limit FOR UPDATE OF jobs SKIP LOCKED
), pictures AS (
    SELECT key FROM images JOIN aged ON job_id = aged.id
), gone AS (
    DELETE FROM jobs USING aged WHERE jobs.id = aged.id RETURNING jobs.id
)
SELECT (SELECT count(*) FROM gone) AS jobs,
       (SELECT coalesce(array_agg(key), '{}') FROM pictures) AS keys
"""
