"""The process of one flow run: `python -m flows.job`, in place of Prefect's own command.

SIGTERM, SIGINT and SIGHUP are held back from the first line on; a thread receives them. While Prefect is being imported
they would else end the process without a word, or be lost where it is the first process of a container.
"""

import signal

if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})

    import runpy

    from flows.signals import receive_in_thread

    receive_in_thread()
    runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)
