"""M3-JEPA: retrieval of pictures; speed of the experts and of frozen lower blocks."""
