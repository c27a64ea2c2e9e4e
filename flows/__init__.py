"""What Prefect runs, step by step.

generate_videos    the flow for a manifest
reprocess_failed   the flow that retries an earlier run
generate_shard     the flow for one part of a large run
lifecycle          prepare, approve, every row, publish, final state: shared by the first two flows
overlap            ends a scheduled run whose predecessor is still going on
continuation       puts a run back for the next worker
rows               takes each row through the tasks
sharding           gives the parts of a large run to workers and follows them
local_shards       the parts of a large run in this process
approval           waits for a person before an expensive run
account_limit      a limit over all machines, if there is one
form               parameters of the flows, made from reelsheet.options
bad_workers        names a worker that is not set up like the run, and passes it over
health             automations that listen no more, runs that wait for nobody
services           Prefect's background services, and their health check
signals            SIGINT, SIGTERM and SIGHUP
job                the process of one run
worker             a Prefect worker that stops politely
prefect_settings   Prefect's settings, tried before anything is spent
embedded_server    Prefect's server for a single command
reporting/         states, artifacts, events, tags and run names
"""
