print("rows:", input("How many rows? "))
