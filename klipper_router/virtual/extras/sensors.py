"""Names of temperature sensors that Klipper knows (klippy/extras: temperature_sensors.cfg, adc_temperature.py, ...)."""

from __future__ import annotations

THERMISTORS = frozenset(
    {
        "ATC Semitec 104GT-2",
        "ATC Semitec 104NT-4-R025H42G",
        "EPCOS 100K B57560G104F",
        "Generic 3950",
        "SliceEngineering 450",
        "TDK NTCG104LH104JT1",
        "Honeywell 100K 135-104LAG-J01",
        "NTC 100K MGB18-104F39050L32",
        "PT1000",
    }
)

SENSORS = THERMISTORS | frozenset(
    {
        "AD595",
        "AD597",
        "AD8494",
        "AD8495",
        "AD8496",
        "AD8497",
        "PT100 INA826",
        "MAX6675",
        "MAX31855",
        "MAX31856",
        "MAX31865",
        "BME280",
        "BMP180",
        "BMP388",
        "AHT10",
        "AHT1X",
        "AHT2X",
        "AHT3X",
        "DS18B20",
        "HTU21D",
        "SI7013",
        "SI7020",
        "SI7021",
        "SHT21",
        "SHT3X",
        "LM75",
        "temperature_combined",
        "temperature_host",
        "temperature_mcu",
    }
)
