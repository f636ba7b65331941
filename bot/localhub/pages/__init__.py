"""What a person sees in a browser: read-only, without scripts.

Cards are strangers' text. They are rendered as Markdown with raw HTML switched off, everything
else is escaped by the templates, and the Content-Security-Policy allows no script at all.
"""
