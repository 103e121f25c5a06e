"""A hand-made app, as a team would write it in an afternoon: the thing to compare with.

A FastAPI endpoint inserts a row and calls `send_task`; a Celery worker with one thread loads the
stock `StableDiffusionPipeline`, renders, writes a file and updates the row; the client polls. It is
done with care (connection pools, a loaded and warm model, one job at a time on the device), without
leases, retries, idempotency or batching.
"""
