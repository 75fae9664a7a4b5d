"""The commands of the project, and in lib what they share."""
