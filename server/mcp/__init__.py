"""Tools that the server runs itself, on MCP servers that the configuration names."""
