"""An app for iPhone, Android and the desktop that captions pictures, or judges statements about them.

Toga's widgets, Briefcase's packages.
"""
