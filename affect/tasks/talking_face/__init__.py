"""The quality of talking-face videos: several scores of a clip, some of them missing, from features of its frames."""
