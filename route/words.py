"""The closed class of English: words that carry grammar rather than content.

Our list: determiners, pronouns, prepositions, conjunctions, auxiliaries, particles and wh-words.
It is English only; for another language -FC and -P-FC mean little.
"""

_FORMS = """
    a an the this that these those each every either neither some any no none all both half few
    fewer little less many more most much several such another other enough own same
    i me my mine myself we us our ours ourselves you your yours yourself yourselves he him his
    himself she her hers herself it its itself they them their theirs themselves one ones oneself
    somebody someone something anybody anyone anything nobody nothing everybody everyone everything
    aboard about above across after against along alongside amid among amongst around as at before
    behind below beneath beside besides between beyond but by concerning despite down during except
    for from in inside into like minus near of off on onto opposite out outside over past per plus
    regarding round since than through throughout till to toward towards under underneath unlike
    until unto up upon versus via with within without
    and or nor so yet if unless although though because while whereas whether lest once then else
    am is are was were be been being do does did doing done have has had having can could may might
    must shall should will would ought need dare used
    isn't aren't wasn't weren't don't doesn't didn't haven't hasn't hadn't can't couldn't won't
    wouldn't shouldn't mustn't 's 're 've 'll 'd 'm n't
    not never also too very just only even still already again there here away back forth
    who whom whose which what when where why how whoever whatever
    whichever whenever wherever however
"""

FUNCTION_WORDS = frozenset(_FORMS.split())
