"""The bodies of requests and answers, as pydantic models: what the OpenAPI document says of them."""
