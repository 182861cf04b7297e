"""Models: finding and loading them, rendering prompts, log-probs of responses, and generating text.

The half that the web page needs (`catalog`, `endpoint`, `client`) never imports torch. It knows neither the
database nor the page.
"""
