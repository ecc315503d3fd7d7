//! Records an OpenAI-compatible upstream into reviewable files and replays them.
