"""TokenMonster: an ungreedy tokenizer over capcoded text, byte-exact with its published vocabularies."""
