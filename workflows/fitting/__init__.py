"""NVTabular workflows: fitted, exported, and fitted on top of an earlier one."""
