"""The subcommands: each module declares its arguments and runs them. What is heavy is imported when it runs."""
