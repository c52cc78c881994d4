"""What is more than one run: functions over recipes."""
