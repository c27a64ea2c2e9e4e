"""The provider's REST API.

client           the POST that costs money, and the GET that polls
classification   what the answer to a POST proves: 429, 5xx, a lost answer, …
"""
