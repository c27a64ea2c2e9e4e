"""A run in progress: from a plan to clips in the destination. `run.Run` composes the other modules.

start            registers a run in the ledger
run              the parts of a run, composed
context          what does not change while a run goes
picture_uploads  uploads pictures that are files, each before its row is submitted
submission       claims a row, sends its POST and records the answer: the only place where money is spent
polling          polls a prediction until it is done
delivery         copies finished clips to the destination
row_status       the status of each row: everybody asks here
clip_warnings    what is odd about delivered clips
stop_control     why a run stops submitting, signals, grace periods
ledger_session   the run's writes to the ledger, repeated until they succeed
in_flight        POSTs on their way, and claims of other runs
price_watch      the price to reserve
caps             what the caps still pay for
shards           parts of a large run
publish          the end of a run
rebuild          a run as the ledger knows it, for `status`, `report` and `resolve`
threads          blocking calls
"""
