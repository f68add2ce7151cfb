"""Who may use the service: open on loopback, API keys, an app's `langgraph_sdk.Auth`, or the host's own users."""
