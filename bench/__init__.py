"""The harness: data, training, evaluation, records, tables, claims, report, command line."""
