echo MODEL_PROVIDER=echo >> .env    # or, with a key of yours, {{ words("key", "") }}
