"""Systems, which wrap a recipe: OOO, OPT, and offline RL as a subroutine of online RL."""
