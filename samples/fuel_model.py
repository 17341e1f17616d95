"""Fuel and battery use of the Norrholm Line's ships, for planning a day's sailings."""

from dataclasses import dataclass

CROSSING_KM = 14.2


@dataclass
class Ship:
    """What planning needs to know about a ship."""

    name: str
    litres_per_km: float
    battery_kwh: float = 0.0


def diesel_litres(ship: Ship, crossings: int, share_electric: float) -> float:
    """Diesel for a number of crossings when a share of each is sailed on the battery.

    The battery takes the first and last kilometres, where the ship passes the nature reserve.
    """
    return ship.litres_per_km * CROSSING_KM * crossings * (1 - share_electric)


def fits_battery(ship: Ship, share_electric: float, kwh_per_km: float = 38.0) -> bool:
    """Whether one charge is enough, with a reserve of 30 per cent for bad weather."""
    return CROSSING_KM * share_electric * kwh_per_km <= 0.7 * ship.battery_kwh
