"""Where clips and tables are kept: buckets and folders, and how a clip gets there."""
