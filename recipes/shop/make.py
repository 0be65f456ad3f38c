"""Write the example shop beside this file: `python recipes/shop/make.py`. The same files every time.

Customers of a segment mostly buy from the categories that suit it, some products sell more than others, and who bought
something is likely to buy the accessory that goes with it: enough for a model to find out. Names of columns, ids,
units and nulls are those of a shop system, not ours.
"""

from __future__ import annotations

import csv
import random
from pathlib import Path
from typing import Any

CATEGORIES = {
    "garden": ["Rake", "Hose", "Spade", "Planter", "Shears", "Lantern", "Trellis", "Bench"],
    "kitchen": ["Kettle", "Pan", "Knife", "Whisk", "Bowl", "Grater", "Toaster", "Mug"],
    "office": ["Lamp", "Chair", "Notebook", "Stapler", "Desk", "Pen", "Organiser", "Monitor arm"],
    "sports": ["Racket", "Mat", "Bottle", "Dumbbell", "Rope", "Jersey", "Helmet", "Glove"],
}
STYLES = ["Classic", "Compact", "Travel", "Deluxe"]
TASTES = {
    "family": ("kitchen", "garden"),
    "student": ("office", "sports"),
    "athlete": ("sports", "kitchen"),
    "retired": ("garden", "office"),
}
CUSTOMERS = 300
ORDERS = 4000
START = 1_704_067_200_000
"""1 January 2024, in milliseconds."""
MINUTE = 60_000


def main() -> None:
    """Write products.csv, customers.csv and orders.csv."""
    dice = random.Random(42)
    products = [
        (category, f"SKU-{category[0].upper()}{number:02d}{style:01d}", f"{STYLES[style]} {noun}")
        for category, nouns in CATEGORIES.items()
        for number, noun in enumerate(nouns)
        for style in range(len(STYLES))
    ]
    customers = [(f"C{1000 + number}", dice.choice(list(TASTES))) for number in range(CUSTOMERS)]
    _write("products", ["sku", "product_name", "price", "categories", "launched"], _products(products, dice))
    _write("customers", ["customer_no", "segment", "Birth Year", "Postal Code"], _customers(customers, dice))
    _write("orders", ["Customer", "SKU", "ordered at", "quantity", "device"], _orders(products, customers, dice))


def _products(products: list[tuple[str, str, str]], dice: random.Random) -> list[list[Any]]:
    rows = []
    for category, sku, name in products:
        others = dice.sample([one for one in CATEGORIES if one != category], dice.choice([0, 0, 1]))
        launched = f"{dice.randint(2018, 2023)}-{dice.randint(1, 12):02d}-{dice.randint(1, 28):02d}"
        rows.append([sku, name, f"{dice.lognormvariate(3, 0.8):.2f}", "|".join([category, *others]), launched])
    return rows


def _customers(customers: list[tuple[str, str]], dice: random.Random) -> list[list[Any]]:
    rows = []
    for number, segment in customers:
        young = {"student": 2000, "athlete": 1990, "family": 1982, "retired": 1952}[segment]
        born = "" if dice.random() < 0.1 else str(young + dice.randint(-6, 6))
        rows.append([number, segment, born, f"{dice.choice(['01067', '04109', '20095', '50667', '80331'])}"])
    return rows


def _orders(
    products: list[tuple[str, str, str]], customers: list[tuple[str, str]], dice: random.Random
) -> list[list[Any]]:
    """The more often a customer orders, the earlier they stand in the list; all orders in the order of their times."""
    weights = [1 / (rank + 10) for rank in range(len(customers))]
    popular = {sku: 1 / (rank + 3) for rank, (_, sku, _) in enumerate(dice.sample(products, len(products)))}
    rows, last, clock = [], {}, START
    for customer, segment in dice.choices(customers, weights, k=ORDERS):
        clock += int(dice.expovariate(1 / 30) * MINUTE)
        before = last.get(customer)
        if before and dice.random() < 0.3:  # the same thing in another style
            sku = before[:-1] + str((int(before[-1]) + 1) % len(STYLES))
        else:
            liked = TASTES[segment] if dice.random() < 0.85 else tuple(CATEGORIES)
            able = [one for category, one, _ in products if category in liked]
            sku = dice.choices(able, [popular[one] for one in able])[0]
        last[customer] = sku
        rows.append([customer, sku, clock, dice.choice([1, 1, 1, 2, 3]), dice.choice(["phone", "desktop"])])
    return rows


def _write(name: str, header: list[str], rows: list[list[Any]]) -> None:
    with Path(__file__).with_name(f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


if __name__ == "__main__":
    main()
