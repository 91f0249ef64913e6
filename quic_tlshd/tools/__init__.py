"""The engine without the daemon, for tests: s_server and s_client in the manner of OpenSSL's."""
