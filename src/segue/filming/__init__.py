"""Films of policies: pictures of the world, with the critic's value and the return that followed under them."""
