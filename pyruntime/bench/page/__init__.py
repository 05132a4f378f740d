"""The page of plots that `bench report` writes: what is drawn, how it is drawn, the document."""
