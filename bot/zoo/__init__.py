"""A family of tiny real models for the demo and the tests: a base, its fine-tunes, an aligned twin."""

from bot.zoo.members import FIRST_DAY, MEMBERS, PROMPTS, SECOND_ACT, Member, card, write_member

__all__ = ["FIRST_DAY", "MEMBERS", "PROMPTS", "SECOND_ACT", "Member", "card", "write_member"]
