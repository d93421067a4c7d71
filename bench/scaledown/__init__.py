"""Removing servers under load: does a request fail, and what is computed again?"""
