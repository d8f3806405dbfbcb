"""A captioning app for iPhone, Android and the desktop: Toga's widgets, Briefcase's packages."""
