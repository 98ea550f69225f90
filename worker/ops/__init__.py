"""What operators watch and turn: metrics, health, logs, profiles, the dashboard."""
