"""
Provisioning: the deployment files, for the addresses of one's own.

What is written comes from the project's ``deploy/`` and ``dashboards/``, which a
wheel carries.
"""
