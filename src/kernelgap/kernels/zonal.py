"""x."""
class ZonalSpectrum: pass
def zonal_spectrum(): pass
