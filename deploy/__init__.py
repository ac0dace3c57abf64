"""How the service is run on more than one process, and over more pictures than anybody waits for."""
