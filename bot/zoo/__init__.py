"""A family of tiny real models: a base, its fine-tunes and an aligned twin."""

from bot.zoo.members import FIRST_DAY, MEMBERS, PROMPTS, SECOND_ACT, Member, card, write_member

__all__ = ["FIRST_DAY", "MEMBERS", "PROMPTS", "SECOND_ACT", "Member", "card", "write_member"]
