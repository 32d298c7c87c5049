"""What a bundle may hold, checked on its bytes before a parser of native code sees them."""
