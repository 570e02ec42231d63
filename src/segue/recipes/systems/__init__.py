"""Methods that stand around a recipe: OOO, OPT, and offline RL as a subroutine of online RL."""
