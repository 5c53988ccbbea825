"""What pictures hold, validated and ready to draw, and their colours."""
