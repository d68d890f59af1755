"""The service."""

PROJECT = "{{ cookiecutter.project_slug }}"
