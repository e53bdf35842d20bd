"""From a study file to a report: settings, sources, stages. Knows every room but the app and the command line."""
