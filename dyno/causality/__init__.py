"""Who wrote what, having read what: dots, contexts, records of concurrent values, minting and tokens."""
