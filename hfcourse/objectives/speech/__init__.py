"""Self-supervised learning from sound: one file a kind of objective, all behind `SpeechObjective`."""
