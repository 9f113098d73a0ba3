"""One module a family of cases, each with check(case); family_topic.py where a topic needs its own."""
