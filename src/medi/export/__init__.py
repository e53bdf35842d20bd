"""A trained model for others: model card and a pipeline that diffusers loads without medi."""
