"""What pictures hold, validated and ready to draw, their colours, and letters that drawing libraries can take."""
