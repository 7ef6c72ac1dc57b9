"""What makes a program an appliance: systemd's readiness and watchdog, and the unit file."""
