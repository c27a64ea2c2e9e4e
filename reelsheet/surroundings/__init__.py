"""What a run depends on and does not own, tried before anything is spent. `doctor` asks the same questions.

problems        every wrong thing: the setting's name, what is seen, the fix; docs/troubleshooting.md shows them
network         proxies and certificates
aws             what boto3 reads: profiles, credentials, regions, endpoints
aws_values      where AWS settings are set, and values that boto3 cannot mean
prefect_setup   Prefect's server and profile, and the folder of an embedded server
work            all that a process needs that works on rows
machine         home and temporary folders, time zone, memory, threads, open files

Only what a run needs is tried: AWS where S3 is used, the rest where a row is to be sent, polled or copied.
"""
